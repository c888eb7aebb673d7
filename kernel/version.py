"""crisp's version, for Version of the CRI, `crisp version` and the package (pyproject.toml reads it from here). Pure.

The package's own metadata has it too, but reading that imports the standard library's e-mail parser: more than two
megabytes in the spawner, and so in every process.
"""

VERSION = "0.1.0"
