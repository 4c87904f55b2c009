"""GitHub's REST interface: the comments of a pull request."""
