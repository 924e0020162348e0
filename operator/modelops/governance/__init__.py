"""Who may run what where: requirements, approvals, and the gates before a pod."""
