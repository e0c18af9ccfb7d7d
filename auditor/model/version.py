"""The version of this package, for those who may not import the package's root."""

VERSION = "0.2.0"
