"""Load that goes on for long, to find what short tests cannot: memory that grows, streams that are lost. Started by hand."""
