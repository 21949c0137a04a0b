"""Words that callers use for the words that articles use: groups of plain spoken English, for any business.

Only words that stand for each other whatever the business; what they mean in one business alone belongs into that
business's ``data/words.yaml`` (groups of the same shape). A group is a line of words; a word may be in several.

Law: no group is about one article or one question.
"""

from __future__ import annotations

_GROUPS = """
quick quickly fast faster soon sooner speed rush hurry urgent time long timeline
cost costs price fee fees charge charges expensive expense rate
cheap cheaper low lower less discount save saving
document documents paper papers paperwork form forms
house home property place building apartment condo
cash money fund funds dollar dollars savings
rise raise raising increase up more higher
drop fall lower decrease reduce down
buy buying purchase get
sell selling resell sale
start begin beginning open
end stop over cancel finish out
fix repair repairs renovate renovation renovating rehab remodel broken
relative family dad mom father mother parent parents brother sister uncle aunt
gift give gives given
partner owner owners co-owner spouse
company business llc firm corporation
early before ahead soon prepay
pay payment payments paid bill bills
month monthly months
up-front upfront deposit down
job work employer income salary wage pay-stub
own owned belong hold holding title
allow allowed may permit ok accept accepted possible approve approved approval
need needed require required requires must necessary
mean means meaning definition stand stands
decide decides decision report reports determine
look check review see
change move moved switch transfer
keep kept stay hold lock locked
wait waiting period
minimum least lowest
maximum most limit highest
worth value valued
insure insured insurance cover covers covered coverage policy
refund refunds return returns money-back
ship shipping shipped deliver delivery delivered send sent arrive
doctor doctors physician provider clinician
appointment appointments visit visits booking
medicine medication medications prescription prescriptions drug drugs pills refill
child children kid kids son daughter
sick ill unwell
phone call telephone number
email e-mail mail
password login log-in sign-in sign account
lost missing stolen
card cards debit credit
broken damaged faulty defective
size sizes fit fits
internet wifi wi-fi network connection online
old older senior
hours opening open closed close
parking park car
address location where directions
safe safety secure security protect
complaint complain unhappy problem problems issue trouble
human person agent representative somebody someone
"""
SYNONYMS: tuple[tuple[str, ...], ...] = tuple(tuple(line.split()) for line in _GROUPS.split("\n") if line)
