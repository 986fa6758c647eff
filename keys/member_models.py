"""Who of the people that sign in belongs to a tenant, and what they may do there."""

from django.conf import settings
from django.db import models


class Member(models.Model):
    """A person's part in a tenant. One person may belong to several."""

    class Role(models.TextChoices):
        """What a member may do; each may do what those below may.

        Owners manage members and every key, members make keys and use the playground, viewers look.
        """

        OWNER = "owner", "Owner"
        MEMBER = "member", "Member"
        VIEWER = "viewer", "Viewer"

    tenant = models.ForeignKey("keys.Tenant", on_delete=models.CASCADE, related_name="members")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.VIEWER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Once per tenant."""

        ordering = ("tenant__name", "user__username")
        constraints = (models.UniqueConstraint(fields=("tenant", "user"), name="member_once_per_tenant"),)

    def __str__(self) -> str:
        """Show who, as what, of whom."""
        return f"{self.user}, {self.get_role_display()} of {self.tenant}"
