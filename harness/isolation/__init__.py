"""What keeps a method's code, and a signal, from harming what is not theirs."""
