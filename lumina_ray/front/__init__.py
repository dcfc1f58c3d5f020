"""The front door: the verbs of `import lumina_ray as lr`, and the objects that they return."""
