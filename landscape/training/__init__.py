"""Training: the SAM family as schedule × perturbation × base optimizer, over flat buffers, exactly resumable."""
