"""Knowledge distillation on MNIST, made visible: the library below the app."""

__version__ = "0.1.0"
