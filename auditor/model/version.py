"""The version of this package, for modules that may not import the package's root."""

VERSION = "0.2.0"
