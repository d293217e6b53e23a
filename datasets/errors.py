"""The one error that data code raises on purpose."""


class DataError(ValueError):
    """Something is wrong with a data set; the message is one line that names what,
    where and the next step.
    """
