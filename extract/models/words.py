"""Common English words of short posts and pictures: the whole-word entries of the tiny tokenizer's vocabulary."""

__all__ = ["COMMON_WORDS"]

_WORDS = """
the be to of and a in that have it is was are were been being for not on with he as you do at this but his by from
they we say her she or an will my one all would there their what so up out if about who get which go me when make can
like time no just him know take people into year your good some could them see other than then now look only come its
over think also back after use two how our work first well way even new want because any these give day most us very
really much too still never always again every here where why down off long little own right big high old great small
next early young same few last more made got going today tonight tomorrow yesterday morning evening night week month
home house street road city town park garden beach sea lake river mountain forest field farm sky cloud clouds rain
storm snow wind sun sunny moon star stars light dark fire water air earth tree trees flower flowers leaf grass bird
birds dog dogs cat cats horse fish animal child children kid kids baby boy girl man men woman women mother father mom
dad sister brother family friend friends couple crowd team player person everyone someone nobody happy happiness glad
joy joyful love loved loves lovely loving nice best better beautiful amazing awesome wonderful perfect fun funny smile
smiles smiling laugh laughing excited exciting enjoy enjoyed enjoying delight delighted proud win wins winner winning
won success hope hopeful thank thanks grateful blessed calm peace peaceful warm sweet cute fresh bright brilliant
fantastic fine cool kind gift party celebrate celebration birthday holiday cheer cheers hug kiss dream dreams magic
treat delicious tasty yay wow yes okay ok lol sad sadness unhappy cry crying tears hurt hurts pain painful sick ill
tired bored boring alone lonely lost lose loser losing fail failed failure worst worse bad awful terrible horrible
ugly hate hated hates angry anger mad furious rage fear afraid scared scary worry worried stress stressed broken break
broke crash crashed accident damage disaster dead death die died dying kill killed war fight fighting attack blood
cold grey gray gloomy miserable disappointed disappointing disappointment upset annoyed annoying sorry regret miss
missed missing wrong problem trouble ruined ruin cancelled delayed late dirty mess grief tragic tragedy danger
dangerous victim victims police sirens flood nightmare photo photos picture pictures image view scene news report
update event meeting office school class train bus station car cars bike plane flight airport hotel shop store market
music song show game games match book movie film food lunch dinner breakfast coffee tea cake pizza ice cream drink
beer wine phone computer table chair door window wall room kitchen bed box bag shoes shirt dress hat hair face eyes
hand hands head heart body foot feet red orange yellow green blue purple pink brown black white gold silver round
square circle triangle line shape three four five six seven eight nine ten hundred thousand half monday tuesday
wednesday thursday friday saturday sunday january february march april may june july august september october november
december spring summer autumn fall winter weekend hour minute second moment user http https www com co rt amp via am
has had did does done doing said says went gone came took taken saw seen found find left feel feeling feels felt looks
looking watch watching wait waiting walk walking run running play playing sit sitting stand standing eat eating sleep
sleeping open opened close closed start started stop stopped begin end ended turn turned keep kept let put set try
tried trying need needs needed ask asked tell told call called help helped showed hear heard bring brought buy bought
sell sold pay paid meet met read write wrote learn learned live lived life world place thing things ways part number
name story stories word words idea question answer reason fact case point side maybe perhaps probably almost enough
quite rather pretty such both either neither each another many several whole while until since before during between
under above through across around against without within along among upon near far away together apart inside outside
behind ahead soon ever once twice often sometimes usually t s m re ve ll d don didn isn doesn wasn couldn i adore
colour color common corner daily harbour local luck mill noon north south east west note ordinary pass plain pick
regular shame size traffic tweet typical usual normal simple luggage boat ball hill bench lamp fence umbrella balloon
kite bridge path roof
"""

COMMON_WORDS: tuple[str, ...] = tuple(_WORDS.split())
