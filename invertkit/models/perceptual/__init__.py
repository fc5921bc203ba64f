"""Networks whose features stand for what people see: LPIPS."""
