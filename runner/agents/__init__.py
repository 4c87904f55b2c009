"""The use cases for agents, as tools of the Model Context Protocol."""
