"""Tables of many trainings that a command computes and stores: the paper, methods, schemes, compression."""
