"""What this installation has done once."""

from django.db import models


class BootstrapStep(models.Model):
    """A step of the first start. It is never done again, so what it made stays deleted when deleted."""

    name = models.CharField(max_length=80, primary_key=True)
    done_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        """Show the step."""
        return self.name
