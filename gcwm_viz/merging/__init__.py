# Here, and not in the registry, because the command line's help names it without torch.
DEFAULT_METHOD = "gcwm"
