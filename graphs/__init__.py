"""Which deployments there are and how they are bound; nothing else."""
