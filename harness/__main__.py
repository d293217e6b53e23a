"""``python -m harness``."""

if __name__ == "__main__":  # worker processes import this module under another name, and need nothing of it
    from harness.cli import main

    main()
