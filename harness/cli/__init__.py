"""The command line, a thin layer over the functions of `harness`: `main` lists the commands,
a module each subject.
"""
