"""The sign-in form."""

from typing import Any

from allauth.account.forms import LoginForm


class SignInForm(LoginForm):  # type: ignore[misc]  # allauth ships no types
    """allauth's form, with a field called as the admin's is: password managers know it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Say the words of this house."""
        super().__init__(*args, **kwargs)
        self.fields["remember"].label = "Stay signed in for two weeks"
        for field in self.fields.values():
            field.widget.attrs.pop("placeholder", None)

    def add_prefix(self, field_name: str) -> str:
        """Call allauth's `login` `username`."""
        prefixed: str = super().add_prefix("username" if field_name == "login" else field_name)
        return prefixed
