"""Judge a run, a baseline or a list file: `python evaluate.py --help` shows the choices."""

import hydra
from omegaconf import DictConfig

from towerrec import command_line, config, tasks


@hydra.main(version_base="1.3", config_path="conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    tasks.evaluate(config.evaluate_config(cfg))


if __name__ == "__main__":
    command_line.run(main)
