"""How a customised model is trained, on one worker: batches, loss, optimiser. No ray, no deepspeed."""
