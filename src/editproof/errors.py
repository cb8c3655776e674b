"""The one exception for mistakes a user can make: the command line prints it as one line and exits with 2."""


class UserError(ValueError):
    """A value the user gave cannot be used; the message names the value and what is allowed."""


class AlreadyProtected(UserError):
    """A photo or clip that is protected already was to be protected."""
