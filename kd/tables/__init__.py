"""Tables of many trainings that a command computes, keeps and stores: the paper's, all methods, DistilBERT's, compression."""
