"""Vendors' keys at rest: what a provider and its further credentials have in common, and those rows."""

from django.conf import settings
from django.db import models

from config.models import TrackedModel
from config.vault import Vault, reference


def vault() -> Vault:
    """Return the vault under the configured keys."""
    return Vault(settings.SECRET_KEYS)


class CredentialHolder(TrackedModel):
    """A row with a vendor's key. What is stored is sealed, or a reference that tells no secret."""

    credential = models.TextField(
        blank=True,
        editable=False,
        help_text="Encrypted API key, or a ${VARIABLE} reference resolved at each start.",
    )

    class Meta:
        """No table of its own."""

        abstract = True

    def set_credential(self, secret: str) -> None:
        """Store `secret` encrypted; a `${VAR}` reference is stored as it is."""
        self.credential = vault().seal(secret)

    def open_credential(self) -> str:
        """Return the secret. Raises SecretUnreadable."""
        return vault().open(self.credential)

    @property
    def credential_kind(self) -> str:
        """Say in words what is stored, never the secret."""
        if not self.credential:
            return "none"
        name = reference(self.credential)
        return f"from ${{{name}}}" if name else "stored, encrypted"

    @property
    def unset_variable(self) -> str:
        """Return the variable that the credential refers to and that is not set here, or ""."""
        name = reference(self.credential)
        return name if name and not self.open_credential() else ""


class Credential(CredentialHolder):
    """A further key of a provider: taken when the ones before it are refused or have used up their quota."""

    snapshot_part = "providers"

    provider = models.ForeignKey(
        "providers.Provider", on_delete=models.CASCADE, related_name="further_credentials"
    )
    name = models.CharField(
        max_length=60, help_text='What it is called in logs and here: "team-b". Once per provider.'
    )
    enabled = models.BooleanField(default=True, help_text="One that is not enabled is never shown.")
    position = models.PositiveIntegerField(
        default=0, help_text="Order of use, after the provider's own key; smallest first. Default 0."
    )

    class Meta:
        """In the order of use; once by each name."""

        ordering = ("position", "id")
        constraints = (
            models.UniqueConstraint(fields=("provider", "name"), name="credential_once_per_provider"),
        )

    def __str__(self) -> str:
        """Show the name."""
        return self.name
