"""Search: the highest load at which every tenant keeps its SLO, by sharing mode, found by bisection over `scale`."""
