"""Train a two-tower model: `python train.py --help` shows the choices."""

import hydra
from omegaconf import DictConfig

from towerrec import command_line, config, tasks


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> float | None:
    return tasks.train(config.train_config(cfg))


if __name__ == "__main__":
    command_line.run(main)
