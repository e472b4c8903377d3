"""Results of evaluations: records, means over data sets, comparisons, model cards."""
