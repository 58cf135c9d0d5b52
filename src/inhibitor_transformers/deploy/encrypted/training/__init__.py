"""Quantization-aware training of the classifiers that run encrypted: `train.train_classifier`. Needs torch."""
