"""Questions asked of many records or stages;
`harness.report` has the table of each under the same name.
"""
