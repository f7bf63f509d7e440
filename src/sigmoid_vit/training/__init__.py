"""Training: Step 1 and Step 2 by one trainer, the losses, what Step 2 learns from, and propagation."""
