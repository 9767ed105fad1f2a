"""Terms of the losses and the networks they need."""
