"""Make the embedded cold-start checkpoints: `python -m r1reward.cold_start`, the one for visual tasks with `--config-name
cold_start_visual`, or both with `make cold-start`.
"""

import hydra
from omegaconf import DictConfig, OmegaConf

from r1reward.configs import CONFIG_FOLDER, quiet_libraries


@hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="cold_start")
def main(config: DictConfig) -> None:
    """Train from nothing, save, and print what the checkpoint can do and where it fails."""
    quiet_libraries()
    from r1reward.models.loading import embedded_checkpoint
    from r1reward.parsing import parse_settings
    from r1reward.trainer.cold_start import ColdStartSettings, make_cold_start

    settings = parse_settings(ColdStartSettings, OmegaConf.to_container(config, resolve=True))
    folder = settings.output or embedded_checkpoint(settings.name)
    summary = make_cold_start(settings, folder)
    print(f"\ncold start in {folder}: {summary['n']} held-out items, pairs judged in both orders")
    print(f"  accuracy {100 * summary['accuracy']['mean']:.1f} %, well-formed {100 * summary['format_rate']['mean']:.1f} %")
    for kind, entry in (summary.get("by_task", {}) | summary["by_category"]).items():
        print(f"  {kind:<16} {100 * entry['accuracy']['mean']:.1f} % (n = {entry['n']})")


if __name__ == "__main__":
    main()
