"""What measures the models and shows it: `python -m train.report --help`. Needs no PyTorch."""
