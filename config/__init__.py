"""What every configuration row shares: the version, the change log, money and secrets."""
