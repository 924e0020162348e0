"""Everything about Models, their versions and the approvals: what was seen, and the decision."""
