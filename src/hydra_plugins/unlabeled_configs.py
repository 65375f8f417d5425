"""The user's folder of configs, wherever Hydra composes one. Hydra finds plugins in this namespace only."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from unlabeled import configs


class OwnConfigs(SearchPathPlugin):
    """Behind the program's own."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if folder := configs.own():
            search_path.append("unlabeled-config-dir", f"file://{folder}")
