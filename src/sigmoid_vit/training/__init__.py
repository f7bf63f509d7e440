"""Training: one trainer for Step 1 and Step 2, the losses, what Step 2 learns from, propagation, speed."""
