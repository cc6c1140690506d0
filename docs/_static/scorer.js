// The weights of Sphinx. A guide comes before a record of a decision that has the same words.
var Scorer = {
  score: ([page, title, anchor, description, score]) => {
    if (page.startsWith("explanation/decisions/")) return score / 3;
    return page.startsWith("how-to/") || page.startsWith("tutorial/") ? score * 1.5 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
