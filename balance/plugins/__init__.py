"""Where plugins are found: every installed distribution may put modules into this package.

Nothing else may stand here. An installed plugin package ships ``balance/plugins/<name>.py`` and no ``__init__``.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
