"""Credentials in the file: `${VARIABLE}` as it is, an encrypted token, or the plain secret."""

from config.vault import SecretUnreadable, Vault, reference


def same_credential(vault: Vault, stored: str, written: str) -> bool:
    """Is what the file writes what the row holds? Two tokens of one secret differ, their secret not."""
    if stored == written or not stored or not written:
        return stored == written
    if reference(stored) or reference(written):
        return reference(stored) == reference(written)
    try:
        return vault.open(stored) == vault.open(written)
    except SecretUnreadable:  # sealed under a key that is gone: the file's one replaces it
        return False
