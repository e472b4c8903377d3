"""Words that identify the language of a text in Latin letters, used by `languages`.

For each language: words that are not used in English, function words first, then common words of image
queries; after the bar words that also occur in names or as loan words ("de", "la", "van"), which count half.
Ordinary English words ("die", "pain", "car", "kind") are not listed.
"""

from __future__ import annotations

# ruff: noqa: RUF001 (the letters are meant)

NAMES = {
    "cs": "Czech", "da": "Danish", "de": "German", "en": "English", "es": "Spanish", "fi": "Finnish",
    "fr": "French", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "nl": "Dutch",
    "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "sv": "Swedish",
    "tr": "Turkish", "vi": "Vietnamese",
}  # fmt: skip

_WORDS = {
    "cs": "je který která před mezi není pes psa kočka kočky dům dítě děti muž muže žena ženy strom sníh "
    "sněhu pláž pláži nebe hora květina pták kůň ulice ulici noc dva dvě tři červený modrý | na se ve "
    "pod",
    "da": "på og ikke det af hund kat kvinde mand pige dreng træ sneen sne stranden himmel bjerg blomst "
    "fugl hest gaden gade nat rød hvid | en et er med som den tre hus",
    "de": "ein eine einen einem einer eines und ist nicht auf dem vor über unter neben zwei drei wird hund "
    "hunde katze katzen haus kinder frau baum schnee himmel wasser blume blumen vogel pferd straße "
    "nacht rotes roter grün blau schwarz schwarzer weiß | der das von zu mit im am den des bei rote",
    "es": "una unos unas está están mientras junto hacia perro perros gato gatos niña niños hombre mujer "
    "árbol nieve playa montaña pájaro caballo coche calle noche rojo rojos blanca | un el la los las "
    "de del y en con por para sobre que es casa cielo flor verde dos tres",
    "fi": "ovat joka kanssa päällä vieressä koira kissa talo lapsi lapset mies nainen lumi lumessa ranta "
    "rannalla taivas vuori kukka lintu hevonen katu kadulla yö kaksi kolme punainen sininen musta | "
    "ja ei",
    "fr": "une dans avec sous devant chez chien chiens enfant enfants homme femme maison arbre neige plage "
    "ciel montagne fleur fleurs oiseau cheval nuit deux trois jaune | un le la les de des du et sur "
    "est qui au aux en mer bleu",
    "hu": "egy és nem kutya macska ház gyerek gyerekek férfi nő hó hóban tengerparton hegy virág madár ló "
    "utca utcán két három piros kék fekete fehér | az van fa",
    "id": "seekor sebuah seorang dengan sedang adalah anjing kucing rumah anak pria wanita pohon salju "
    "pantai langit gunung bunga burung kuda jalan malam dua tiga merah | di dan ini itu ke yang",
    "it": "nella sulla sul dello degli sono cani gatto gatti bambino bambina bambini uomo albero neve "
    "spiaggia montagna fiore fiori uccello cavallo strada notte rosso | un una uno il lo la gli le di "
    "del della nel con per casa cielo tre che cane donna due",
    "nl": "een het zijn niet voor naar bij twee drie hond honden huis kinderen vrouw sneeuw bloem vogel "
    "paard straat nacht rood rode blauw zwart zwarte | de van met op en aan kat",
    "no": "på og ikke av hund katt kvinne mann jente gutt trær snøen snø stranden himmel fjell blomst fugl "
    "hest natt rød svart hvit | en et er med som den tre hus",
    "pl": "jest się nie przed przez psa kot kota kobieta mężczyzna dziecko dzieci drzewo śnieg śniegu plaża "
    "plaży niebo góra kwiat ptak koń ulica ulicy dwa dwie trzy czerwony czarny | na w z pod dom noc",
    "pt": "uma umas não está estão cão cachorro gato menino menina crianças homem mulher árvore neve praia "
    "céu montanha flor pássaro cavalo rua noite dois duas vermelho preto | um o os em com na nas da "
    "dos das de para por que casa",
    "ro": "și în este câine pisică casă copil copii bărbat femeie copac zăpadă plajă munte floare pasăre "
    "stradă noapte doi două roșu negru | un o pe cu la de trei",
    "sv": "på och är ett för inte hund katt kvinna flicka pojke träd snön snö stranden himmel blomma fågel "
    "häst gatan gata natt röd svart vit två | en i av med som den hus tre",
    "tr": "bir ile için köpek kedi çocuk çocuklar kadın ağaç karda kumsal gökyüzü dağ çiçek kuş sokakta "
    "gece iki üç kırmızı mavi siyah beyaz | ve bu ev kar",
    "vi": "một những và trên của người trong đang chó mèo nhà trẻ cây tuyết biển trời núi hoa chim ngựa "
    "đường đêm hai ba đỏ | con",
}
_ENGLISH = (
    "the a an of in on at with and or is are was to for from by his her its their this that some no not "
    "near over under into out up down next front behind while two three man men woman women boy girl "
    "child children people person dog dogs cat cats house tree snow beach street water sky photo picture "
    "image red green blue black white small large big old young playing running standing sitting holding "
    "wearing looking"
)
ENGLISH = frozenset(_ENGLISH.split())


def _word_weights(words: str) -> dict[str, float]:
    strong, _, weak = words.partition("|")
    return {**dict.fromkeys(weak.split(), 0.5), **dict.fromkeys(strong.split(), 1.0)}


# Language code -> word -> weight.
STOP_WORDS = {code: _word_weights(words) for code, words in _WORDS.items()}
