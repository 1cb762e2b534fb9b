"""``validate-adapter``: whether an adapter keeps the contract of the driver protocol, apart from all requirements.

A deviation that a run finds may be the adapter's. These checks know the protocol only
(conformance.drivers.protocol): they make calls that any correct driver can do, and look at how the answers,
refusals and trees arrive. They judge nothing of overlay semantics.
"""
