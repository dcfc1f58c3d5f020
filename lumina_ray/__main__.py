"""`python -m lumina_ray …` is the `lumina` command, also where nothing is installed, as in `ray job submit`."""

from lumina_ray.cli.main import run

if __name__ == "__main__":
    run()
