# ruff: noqa: E501
"""Answers as language models write them: those that say the one right answer, and those that deny, hedge, name two, or say
something else. By reward and solution; separated by " | " and line ends, a line end within an answer is ⏎.
"""

BOX = "[12, 30, 200, 180]"
DOGS = '[{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}]'

RIGHT = {
    ("verdict", "1"): """
        Response 1 is the better one. | Response 1 wins. | Answer 1 | The first | 1 is the better response. | [1] | Response 1!
        I would choose Response 1 over Response 2. | My choice is response 1. | Response 1 outperforms Response 2.
        Overall, Response 1 is more accurate. | Response 1 is preferred. | Response 1 (it counts the dogs correctly)
        **Response 1** is better because Response 2 invents a cat. | Response 1 - more detailed and accurate | 回答1 | 选择1
        The winner is Response 1. | Response 1 is superior to Response 2. | I prefer the first response. | The first is correct.
        Response 1 provides a more accurate and detailed description of the image. | Assistant 1 | 第一个回答更好。 | 1更好
        Response 1 correctly identifies the dog, while Response 2 says it is a cat. | 1 because 2 is wrong. | Response 1 > Response 2
        Between the two, Response 1 is better. | Therefore, Response 1. | Better response: 1 | response_1 | Response-1
    """,
    ("verdict", "2"): """
        The better response is 2. | Response 2 is better than Response 1 | 2 > 1 | [[2]] | Response 2: it is not wrong
        Response 2 better matches the picture. | It's Response 2. | Preferred: Response 2 | The second one wins | Answer 2 is correct and Answer 1 is wrong. | Response 2 is the best answer.
    """,
    ("multiple_choice", "B"): """
        It's B | B选项 | B：狗 | B.The dog | It is B. | It should be B. | The answer would be B. | I would go with B. | My answer is B.
        Choice: B | Option (B) | The answer is option B. | **Answer: B** | B: a dog | B) dog | B is right. | B is the best answer.
        B because the dog is brown. | B, since the sign is red | B seems correct. | (B) is correct | B - the dog | [B] a dog
        I'd pick B. | Definitely B. | 选B | 选择B。 | 应该选B | 答案选B | B项 | B是正确的 | B。 | B，因为狗是棕色的 | B) None of the above
        B. Wait for the bus | B. Both cats and dogs | B. Plan C | B) 12 | B.12 | B:dog | The correct choice is **(B)**: dog
        B. Incorrect | B is the correct option. | Letter B | b) dog | The answer is B) a red car. | B (dog) | So, B. | Correct answer: B
        B matches the image. | B best describes the image. | B is my answer | answer is B | The option is B. | (b)
    """,
    ("multiple_choice", "A"): "A is correct | A, because it is red | A. A cat | A) a cat | It's A. | A because the cat is red",
    ("yes_no", "yes"): """
        (Yes) | Yeah | Yep. | Yes, there are no cats | YES | Yes; it is red. | Yes: the dog is brown. | Correct answer: Yes | Yes (there is a dog)
        Yes, it is a dog. | Yes it does. | Yes, the man is wearing a hat. | Yes, both dogs are brown. | It is yes. | True. | true
        Yes, they are. | Yes there is a dog | Yes, I do. | Yes. The cat is not visible, but the dog is. | 是的 | 是的，图中有狗。 | 对 | 有 | 是
        Yes because there is a dog. | Yes, that is correct. | Yes, he's not alone. | Yes, two of them are. | Yes — it is.
    """,
    ("yes_no", "no"): """
        (No) | Nope | There is no dog | No. There is no dog. | No, there isn't. | No dog is visible in the image. | No, it's a cat. | NO | False
        There are no dogs in the image. | No it isn't | No, he is not. | No, because it is white. | No, the dog is white. | No; it is a cat.
        There isn't a dog in the image. | No: the car is red. | 不 | 没有。 | 不是的 | 否 | 没有狗 | 不，图中没有狗。 | No, I don't see a dog.
        No, I cannot see any dog. | No, they do not. | No there are only cats | No, it is a white dog. | No, there is only one.
    """,
    ("number", "12"): """
        十二 | a dozen | 6+6=12 | Twelve. | 12 dogs | I see 12 dogs. | There are twelve dogs in the picture. | 12 people are visible.
        I count 12. | It is 12. | It's 12. | Total: 12 | A total of 12 | The image shows 12 apples. | Exactly 12 | 12 apples, all of them red.
        In total, there are 12 apples. | The number is 12 | 12 people | 12.00 | 图中有12个苹果。 | 一共12个 | 十二个 | 12个 | 12只狗
        There are exactly 12. | Approximately 12 meters | ~12 | 12 (twelve) | twelve (12) | So there are 12 apples in total. | 12 dogs in total
        We have 12 apples. | The answer is 12 apples. | There are about 12 apples on the table. | 12 is the answer. | 12 is correct.
    """,
    ("number", "1"): "一个 | one | One dog | There is one dog. | There is 1 dog in the image. | 1 dog, which is brown",
    ("number", "0.5"): "half | a half | one half | 1/2 | 0.5 | .5 | 50%",
    ("number", "12 km/h"): "12 km/h | 12 kilometers per hour | 12",
    ("number", "2005"): "2005 | in 2005 | It was in 2005. | The year 2005 | 2005.",
    ("number", "-5"): "minus 5 | negative 5 | negative five | -5 | −5 | It is minus 5. | -5 degrees",
    ("number", "105"): "one hundred and five | one hundred five | 105 | 一百零五",
    ("number", "2500"): "two thousand five hundred | 2,500 | 2500 | 2.5 thousand | two thousand and five hundred",
    ("number", "12 cm"): """
        12cm | The line is 12 cm long. | 12 Centimeters | 12 CM | It measures 12 centimeters. | The length is 12. | 12 in total
        about 12 cm | 12厘米 | 12 cm.
    """,
    ("number", "12°C"): "12 degrees Celsius | 12 celsius | 12 °C | 12° | 12 degrees | 12 | It is 12°C outside. | 12℃ | 12摄氏度 | 12 Celsius",
    ("number", "12 feet"): "12' | 12 ft | 12 Feet | 12 foot | 12",
    ("number", "3 dogs"): "3 | three dogs | There are 3 dogs. | 3 brown dogs | There are three. | I see 3 dogs in the yard. | 3 dogs are visible",
    ("iou", BOX): """
        The box is [12,30,200,180]. | The dog is located at [12, 30, 200, 180]. | [12, 30, 200, 180]⏎The dog is on the left.
        Bounding box: [12, 30, 200, 180] | (12, 30), (200, 180) | [[12, 30], [200, 180]] | ```[12, 30, 200, 180]``` | **[12, 30, 200, 180]**
        Here is the bounding box:⏎```json⏎{"bbox_2d": [12, 30, 200, 180]}⏎``` | bbox: [12, 30, 200, 180] | the dog: [12, 30, 200, 180]
        x1: 12, y1: 30, x2: 200, y2: 180 | <box>[12, 30, 200, 180]</box> | {"bbox": [12, 30, 200, 180]} | 12, 30, 200, 180
        <|object_ref_start|>the dog<|object_ref_end|><|box_start|>(12,30),(200,180)<|box_end|> | {"answer": [12, 30, 200, 180]}
        The coordinates are [12, 30, 200, 180] in pixels. | <bbox>12, 30, 200, 180</bbox>
    """,
    ("iou", "None"): """
        None | none. | null | [] | There is no such object. | No such object is visible. | No dog is present in the image. | N/A | 没有
        No matching object found. | There is no dog in the image. | The object is not present in the image. | Not found | Nothing.
        None of the objects match. | 图中没有狗。 | 不存在 | There are no dogs. | No object | 没有符合条件的物体 | The dog is not visible.
    """,
    ("od_length", DOGS): """
        cat: [10, 10, 110, 110]⏎dog: [200, 50, 300, 250] | - cat: [10, 10, 110, 110]⏎- dog: [200, 50, 300, 250]
        {"cat": [10, 10, 110, 110], "dog": [200, 50, 300, 250]} | {"detections": [{"box": [10, 10, 110, 110], "label": "cat"}, {"box": [200, 50, 300, 250], "label": "dog"}]}
        I found two objects:⏎[{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}]
        [{'bbox_2d': [10, 10, 110, 110], 'label': 'cat'}, {'bbox_2d': [200, 50, 300, 250], 'label': 'dog'}]
        [{"label": "cat", "bbox_2d": [10, 10, 110, 110]}, {"label": "the dog", "bbox_2d": [200, 50, 300, 250]},]
        [{"box_2d": [10, 10, 110, 110], "label": "cat"}, {"box_2d": [200, 50, 300, 250], "label": "dog"}]
        {"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}
        {"cat": [[10, 10, 110, 110]], "dog": [[200, 50, 300, 250]]} | cat[[10, 10, 110, 110]]dog[[200, 50, 300, 250]]
        [{"object": "cat", "bbox": [10, 10, 110, 110]}, {"object": "dog", "bbox": [200, 50, 300, 250]}]
        [{"label": "cat", "box": {"x1": 10, "y1": 10, "x2": 110, "y2": 110}}, {"label": "dog", "box": {"x1": 200, "y1": 50, "x2": 300, "y2": 250}}]
        [{"label": "cat", "x1": 10, "y1": 10, "x2": 110, "y2": 110}, {"label": "dog", "x1": 200, "y1": 50, "x2": 300, "y2": 250}]
        The detected objects are: [{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}].
    """,
    ("exact", "cat"): """
        A cat | The cat! | It is a cat. | It's a cat. | cat. | Cat | CAT | "cat" | a cat | The animal is a cat. | This is a cat. | That's a cat.
        **Cat** | The animal in the image is a cat. | Answer: cat | The answer is cat. | {"answer": "cat"} | It appears to be a cat. | A cat.
        The main subject is a cat.
    """,
    ("exact", "x-ray"): "xray | X-ray | an x-ray | X-Ray.",
    ("exact", "ice cream"): "ice-cream | Ice cream. | an ice cream | The ice cream",
    ("exact", "New York"): "new york | New York. | The city is New York. | It's New York | The name of the city is New York.",
    ("default", "(2, 3)"): "(2,3) | (2, 3) | The point is (2, 3). | ( 2, 3 )",
    ("default", "A. cat"): "A | (A) | A. cat | A) cat | A cat | cat | The cat | A: cat | A - cat | A (cat) | The answer is A. | Option A | A is correct | Cat.",
    ("default", "a red car"): "red car | The red car | It's a red car. | A red car! | **A red car** | The vehicle is a red car.",
    ("default", "3 dogs"): "3 | three | 3 dogs. | Three dogs | There are 3 dogs.",
}  # fmt: skip

WRONG = {
    ("verdict", "1"): """
        Response 1 is less accurate | other than response 1 | instead of response 1 | Everything except response 1
        Response 1 contradicts the image | Response 1 misses the cat | I would rule out response 1 | First, let me think | the first glance
        one is better | Response 1 is not better | Response 1, or maybe Response 2 | Response 1 vs Response 2 | Response 1 and Response 2
        Response 1 is good but Response 2 is better. | Responses 1 and 2 are equally good. | Response 1 is almost as good as Response 2.
        Response 1 would be better if it were longer. | It is hard to choose Response 1. | Response 1 should be discarded.
        Response 1 is outperformed by Response 2. | Response 1 loses. | I was going to choose Response 1. | Response 1? No. | 1 dog
        Response 1 has more errors. | Not Response 1. | Response 1 has less detail. | There is no reason to prefer Response 1. | 1/2 | 1 or 2
        Response 1 seems better, but it is wrong. | 回答1不好 | 回答1更差 | 不选1 | 回答1和回答2一样好 | 1 = 2 | 1 < 2 | Response 1 < Response 2 | 1st, 2nd
        Response 1 lacks detail | Response 1 is beaten by response 2 | Avoid response 1 | Response 1 is far from correct. | Response 1 needs work.
        Response 1 is 5 and Response 2 is 9. | Response 1: 3, Response 2: 9 | 1, then 2 | Anything but response 1 | Response 1 is too long.
    """,
    ("verdict", "2"): """
        Response 2 is beaten | Response 2 is outperformed | the second response is the one to avoid | Neither response 2 nor response 1
        Response 2 is the worse one. | The worse response is 2. | I can't choose Response 2. | Second thoughts | two | 2 cats
    """.replace(" | two ", " "),
    ("multiple_choice", "B"): """
        B is the wrong answer | B would be wrong | B is the only incorrect one | B cannot be right | B doesn't match | B was eliminated
        B can be excluded | B vs C | B / C | B > C | B as well as C | B, also C | B then C | B cat and C dog | B, no wait, C
        B is close but C is right | B is tempting, the answer is C | B⏎⏎Answer: C | B maybe | B is unlikely. | B is not it | Not B | B or C
        B is false | B, but C is better | B. Actually, C. | B. No, A. | B) dog. Wait, it is A. | (B) is wrong | (B) or (C) | B & C | B, C, D
        B is ruled out | Everything but B | All except B | B would be correct if it were red. | B might be correct | B? | B isn't correct
        B seems wrong | B or maybe not | B不对 | 不是B | B是错的 | B或C | 除了B | between B and C | Either B or C | B–D | B-D | B to D | B, not sure
        B is partly correct, C is fully correct | A, B | B was my first thought, but it is C | B (wrong) | B - incorrect | I doubt B.
        Be careful | B plus C | B because C is the answer | (B) (C) | B; C | B⏎C | B. The correct answer is D. | Anything but B | I rejected B
    """,
    ("multiple_choice", "A"): "A cat | A dog is running | A or B | A picture of B | I am not sure | A few | A is not correct | A - B | A wrong answer",
    ("yes_no", "yes"): """
        Yes, it is not | Yes is wrong | Yes is not the answer | Yes, not really | Yes, I cannot tell | True, but it isn't | 是否 | 是不是
        有没有 | 是吗 | 有可能 | 对不起 | 是错的 | Yes? | yes or no | Yes and no | Yes, maybe. | Yes/No | Maybe yes | Not yes | Yesterday
        Yes, probably not. | Yes, I am not sure. | Yes, it depends. | True or false | Yes, if it is red | Yes, it isn't. | 是的吗 | 是的话
        Yes would be wrong | Yes, just kidding. | Truely hard to say | yes cannot be the answer | Yes. Actually, no. | Yes, wait. No. | 可能是
        Yes, hard to tell. | The answer is not yes | eyes | Yes, unclear | Yes, they are not. | Yes, there is not.
    """,
    ("yes_no", "no"): """
        不知道 | 不确定 | 不清楚 | 否则 | 不过是的 | 没有办法判断 | No. 1 | No image provided | No question, it is | No evidence either way
        No idea | No way to tell | No doubt it is | No, it is. | No, there is. | No? | No. 5 | No one knows | No problem | Not | None | Now
        No, maybe. | No, I cannot tell. | No, I'm not sure. | There is no way to tell. | There is no doubt. | There is no question that it is.
        No is wrong | No is not the answer | No more, no less than yes | 不一定 | 没有问题 | 没有疑问 | 没有图片 | No information is given. | No longer
        No wonder | No, that is true. | No fewer than three | No, they are. | False alarm, it is there | No, wait, it is. | 不好说 | 无法判断
    """,
    ("number", "12"): """
        12 to thirteen | 12 thirteen | 12, wait: thirteen | 12 is close, the answer is thirteen | 12 halves | 12 thirds | 12 quarters | 12 tenths
        12 pairs | 12 doubled | twice 12 | 12 point five | negative 12 | square root of 12 | log 12 | anything but 12 | > 12 | 12 is too many
        12K | 12分之一 | 12以上 | 12 or so more | 12+ | 12-13 | 12~13 | < 12 | ≥ 12 | ≠ 12 | not 12 | at least 12 | at most 12 | up to 12 | 12?
        over 12 | nearly 12 hundred | 12 million | 12!  | 12% of 50 | 12 minus 3 | maximum 12 | before 12 | 12 is wrong | 12 per dozen | 12 plus
        a dozen or two | two dozen | half a dozen | 12 dozen | dozens | 12x | 12^2 | 12 squared | 一百十二 | 十二万 | 12万 | 12倍 | 不是12 | 超过12
        12 is not correct | It cannot be 12. | There may be 12. | There are more than 12. | fewer than 12 | 12 apples or 13 | minus 12 | -12
        It would be 12 if one was added | one to 12 | base 12 | 12 is the wrong answer | no. 12 is right? | between 11 and 12 | 12.5 | 1,2 | 1 2
        the 12 is crossed out, it is ten | half of 12 | 12 off | 12 short of a hundred | 3 times 12 | the square of 12 | 12 factorial | 12 and a half
    """,
    ("number", "10"): "ten three | ten to twelve | ten thousand | tenth of ten | ten and a half | ten percent of 50 | ten times ten",
    ("number", "5"): "5 thirds | 5 fifths | five halves | five hundred | five of 12 | 5 less | five or six | 5 squared | 5 more",
    ("number", "12 cm"): """
        It is 12 apples | It is 12 Meter | 12 apples | 12 m | The line is 12 meters long. | 12 inches | 12 cm^2 | 12 square cm | 12 mm | 12"
        12 Kilometers | 12 kg | 12 cm or more | not 12 cm
    """,
    ("number", "12 feet"): '12" | 12 in | 12 inches | 12 square feet | 12 m',
    ("number", "12 in"): "12' | 12 ft | 12 feet | 12 cm",
    ("number", "12°C"): "12°F | 12 fahrenheit | 12 degrees Fahrenheit | 12 K | 12 cm | -12°C",
    ("number", "12 dogs"): """
        12 cats, dogs | 12 dog houses | 12 legs of dogs | There are 12 cats, the dogs are gone | 12 cats | 12 cats and dogs | 12 dog legs
        The number of cats is 12 | 12 people with dogs | 12 hot dog stands | There are 12 cats near the dogs.
    """,
    ("iou", BOX): """
        The box is not [12,30,200,180]. | anything but [12,30,200,180] | [12,30,200,180]? | [12,30,200,180] is wrong
        There is no object at [12,30,200,180]. | [12,30,200,180], None | It is none of [12,30,200,180] | [12,30,200,180] or [1,2,3,4]
        Maybe [12,30,200,180] | [12,30,200,180] is incorrect. | [12,30,200,180] cannot be it | I reject [12,30,200,180] | not at [12,30,200,180]
        Either [12,30,200,180] or nothing | [12,30,200,180] if it is there | Everything except [12,30,200,180] | [12,30,200,180] but no dog is there
        [[12,30,200,180],[1,2,3,4]] | I doubt that it is [12,30,200,180] | [12,30,200,180], wait | [12,30,200,180] 5 | 不是[12,30,200,180] | 除了[12,30,200,180]
        [12,30,200,180] isn't the dog | [12,30,200,180] is unlikely | The dog is gone. | [12,30,200] | [30,12,180,200,1]
    """,
    ("iou", "None"): """
        无人机 | 无法判断 | 没有问题 | No fewer than three dogs | No occlusion: dog on the left | There is no question that the dog is there
        The objects are not in focus | I have no idea | No. It is on the left | Not sure | None? | no doubt | Nothing is hidden | 没有办法
        No problem, the dog is on the left | Not only the dog | 没有遮挡的狗在左边 | No less than two | None of your business | Nonetheless | No clue
        There is no reason to say none | No one knows | There is no dog on the left, but one on the right | No image was given | N/A or the dog
        Nothing but a dog | 无疑 | None, the dog is on the left | No wonder | No image provided | Not visible? | 不存在问题 | 无论如何
    """,
    ("od_length", DOGS): """
        [{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}] is wrong
        Not these: [{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}]
        [{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}]?
        Maybe [{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}]
        There is no [{"bbox_2d": [10, 10, 110, 110], "label": "cat"}, {"bbox_2d": [200, 50, 300, 250], "label": "dog"}]
        cat: [10, 10, 110, 110], not dog: [200, 50, 300, 250] | cat: [10, 10, 110, 110] or dog: [200, 50, 300, 250]
        None, or cat: [10, 10, 110, 110]⏎dog: [200, 50, 300, 250] | cat: [10, 10, 110, 110]⏎no dog: [200, 50, 300, 250]
        I cannot confirm cat: [10, 10, 110, 110]⏎dog: [200, 50, 300, 250] | cat: [10, 10, 110, 110]⏎dog: [200, 50, 300, 250]⏎None
        everything except cat: [10, 10, 110, 110]⏎dog: [200, 50, 300, 250] | cat: [10, 10, 110, 110]⏎perhaps dog: [200, 50, 300, 250]
        cat: [10, 10, 110, 110]⏎dog: [200, 50, 300, 250]⏎These are incorrect. | cat: [10, 10, 110, 110]⏎dog: [200, 50, 300, 250] 不对
    """,
    ("exact", "cat"): """
        The least likely animal is cat | My rejected option is cat | the fake animal is cat | It is not a cat | It's no cat | It isn't a cat
        cat or dog | cat? | The other animal is a cat | Anything but a cat | The wrong answer is cat | This is hardly a cat | a cats | scat
        If it is a cat | The animal is probably not a cat | Its enemy is never a cat | cat, dog | The incorrect animal is a cat | Maybe a cat
        The animal it is unlike is a cat | The excluded animal is a cat | catfish | cat-fish | Not a cat | Neither cat | not cat
        The opposite of it is cat | It was almost a cat | It is almost a cat | It is said to be a cat, wrongly
    """,
    ("exact", "resign"): "re-sign | re sign",
    ("exact", "AB"): "A-B | A B | a-b",
    ("exact", "recover"): "re-cover",
    ("default", "A. 12"): "A. 13 | A) 13 | A - 13 | 13 | B | B. 12 | A: 13",
    ("default", "A. cat"): "A - dog | A (dog) | A dog | A: dog | A) dog | dog | B | B. cat | A, dog | not A | A is wrong | A or B",
    ("default", "B. cat"): "B dog | B - dog | B (dog) | B, dog | B: dog | A | B is wrong | B maybe | B or C | A cat and B dog",
    ("default", "5"): "5 thirds | 6 | not 5 | 5 or 6 | five hundred | twice 5",
    ("default", "(2, 3)"): "(2, 4) | (3, 2) | (23) | (2.3) | (-2, 3) | (2, 3, 4)",
}  # fmt: skip


def forms(cases: dict[tuple[str, str], str]) -> list[tuple[str, str, str]]:
    """(reward, solution, answer) of each form."""
    return [
        (name, solution, form.strip().replace("⏎", "\n"))
        for (name, solution), written in cases.items()
        for line in written.splitlines()
        for form in line.split(" | ")
        if form.strip()
    ]
