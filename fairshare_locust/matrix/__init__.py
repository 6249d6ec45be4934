"""A matrix: one profile under several sharing modes, engines and loads, with repeats; each cell an ordinary run."""
