"""What agents work with: the use cases as tools of the Model Context Protocol."""
