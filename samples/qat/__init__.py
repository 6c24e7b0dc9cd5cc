"""A small network, fine-tuned as its FP4 engine will compute it."""
