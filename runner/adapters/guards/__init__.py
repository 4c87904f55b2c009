"""What is asked before each batch; each guard meets `runner.execution.ports.Guard`."""
