"""Write a ranked list for every user: `python recommend.py --help` shows the choices."""

import hydra
from omegaconf import DictConfig

from towerrec import command_line, config


@hydra.main(version_base="1.3", config_path="conf", config_name="recommend")
def main(cfg: DictConfig) -> None:
    # Here, so that --help and a misspelt key need not wait for torch and lightning.
    from towerrec import tasks

    tasks.recommend(config.recommend_config(cfg))


if __name__ == "__main__":
    command_line.run(main)
