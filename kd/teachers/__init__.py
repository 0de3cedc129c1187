"""Teachers: trained networks whose logits are computed once per image."""
