"""Pictures in and out: loading, inputs, sizes, the demonstration, labelled sheets."""
