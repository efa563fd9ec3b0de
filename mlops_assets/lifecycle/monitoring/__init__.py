"""What is watched while a model serves: drift, performance, a day against the weeks before."""
