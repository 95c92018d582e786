"""Train a two-tower model: `python train.py --help` shows the choices."""

import hydra
from omegaconf import DictConfig

from towerrec import command_line, config


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    # Here, so that --help and a misspelt key need not wait for torch and lightning.
    from towerrec import tasks

    return tasks.train(config.train_config(cfg))


if __name__ == "__main__":
    command_line.run(main, resumes=True)
