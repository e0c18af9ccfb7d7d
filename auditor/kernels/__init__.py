"""Loops over arrays, compiled. They know neither pandas nor the model's classes."""
